"""The Rollout page: declaration, state, reports by a job, trainings on request."""
