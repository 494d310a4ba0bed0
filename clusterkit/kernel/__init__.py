"""Names, mailboxes, calls that wait, and the way of a message here or to a link."""
