"""HTTP server of the workbench: API, output cache, jobs, access checks."""
