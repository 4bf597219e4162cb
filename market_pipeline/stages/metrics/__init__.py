"""What follows from a day's books: trades with their books, figures of intervals, and bars."""
