#!/bin/sh
# Removes from an installed environment what the CPU runtime never loads: 130 MB of device plugins, converters, headers.
set -eu
packages=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cd "$packages/openvino"
rm -rf include cmake tools
rm -f libs/libopenvino_intel_gpu_plugin.so libs/libopenvino_intel_npu_plugin.so libs/cache.json
for frontend in tensorflow tensorflow_lite pytorch paddle jax gguf onnx; do
    rm -f libs/libopenvino_${frontend}_frontend.so*
done
cd "$packages/onnxruntime"
rm -rf transformers quantization tools datasets
rm -f capi/libonnxruntime.so.*  # for native programs; the Python module holds the same code
find "$packages" -name '*.pyi' -delete
find "$packages" -type d -name tests -prune -exec rm -rf {} +
