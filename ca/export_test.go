package ca

// LintedShapes is how many shapes of certificates have been linted and passed.
func (a *Authority) LintedShapes() int {
	a.shapes.mu.RLock()
	defer a.shapes.mu.RUnlock()
	return len(a.shapes.passed)
}

// ReadRecipes is how many texts of profiles have been read.
func (a *Authority) ReadRecipes() int {
	a.recipes.mu.RLock()
	defer a.recipes.mu.RUnlock()
	return len(a.recipes.byText)
}
