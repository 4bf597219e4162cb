"""How far two books of one instrument are from each other, by messages, by time, by distributions.

The first book is the golden one, against which the other is measured.
"""
