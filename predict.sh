#!/bin/sh
# The challenge's entry: `docker run ... /bin/bash -c "sh predict.sh"`, cases in ./inputs, results in ./outputs.
exec samedge predict /workspace/inputs /workspace/outputs
