"""What a piece, a turn, a frame and a call cost, beside the official SDK and the raw library."""
