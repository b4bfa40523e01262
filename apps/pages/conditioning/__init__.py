"""The Conditioning page (clinic): declaration, state, examination by a job, experiments."""
