"""Networks in inference form, as ONNX and OpenVINO."""
