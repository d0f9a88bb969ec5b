"""Which images to label next, drafts of their masks, and corrected masks back into the data set."""
