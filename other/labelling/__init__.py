"""The page that photos are labelled on: which come first, and what the labels give so far."""
