"""The doors: the page, `/api`, `/v1`, callbacks and files, over HTTP."""
