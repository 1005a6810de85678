package rotation

// Current is the credential in use as far as anybody knows: the active one, else the staged
// one that ends last. It is Empty where nothing stands but what is retiring.
func (p Pair) Current() Cell {
	current, _ := p.front()
	return current
}

// Successor is the staged credential that is to follow the active one; Empty where there is
// none.
func (p Pair) Successor() Cell {
	_, successor := p.front()
	return successor
}
