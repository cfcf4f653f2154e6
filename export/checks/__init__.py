"""What is measured of an exported model: parity, speed."""
