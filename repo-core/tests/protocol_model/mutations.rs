//! What is done wrongly is noticed.
