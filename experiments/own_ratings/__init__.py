"""How much do N of one's own ratings improve the model on other photos? Learning curves of `driqa fit`."""
