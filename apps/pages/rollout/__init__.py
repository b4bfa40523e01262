"""The Rollout page: two epochs of a sequence model, asked all that the rollout lab asks."""
