"""The Conditioning page's parts: what is asked, what is examined by a job, how it is told."""
