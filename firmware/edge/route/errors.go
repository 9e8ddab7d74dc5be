package route

import (
	"fmt"
	"strings"

	"github.com/alecthomas/participle/v2/lexer"
)

// Error is one mistake in a route or a condition.
type Error struct {
	// Message says what is wrong and what was expected.
	Message string
	// Line and Column, both from 1, are where: the column counts characters.
	Line, Column int
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Errors are all mistakes found in one text, in the order of their position;
// there is at least one. Parse and ParseCondition return no other error.
// errors.As finds the first *Error in it.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single mistakes to errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

func errorAt(pos lexer.Position, format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Line: pos.Line, Column: pos.Column}
}
