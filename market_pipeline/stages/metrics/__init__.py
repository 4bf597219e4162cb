"""What follows from a day's books: trades with their books, figures by minute, and bars."""
