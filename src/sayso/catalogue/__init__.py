"""The models a customer can choose: where they run, what they cost, take and need."""
