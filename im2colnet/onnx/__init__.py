"""Networks of other libraries: ONNX files."""
