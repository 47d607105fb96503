"""The BentoML service: real-time answers over HTTP and a batch runner in a process of its own."""
