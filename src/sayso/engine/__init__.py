"""The CPU lip-sync engine: speech -> visemes -> motion -> frames -> video, as small pure steps."""
