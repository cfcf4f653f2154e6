"""The submission kit: build, check, pack and verify a challenge image. Needs a Docker engine and the extra `docker`."""
