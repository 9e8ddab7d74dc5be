package route

import (
	"slices"
	"strings"

	"github.com/alecthomas/participle/v2/lexer"
)

// Condition is what stands after WHERE, parsed and checked. It is immutable
// and may be evaluated by several goroutines at once.
type Condition struct {
	text string
	eval func(*Input) Result
}

// ParseCondition parses and checks a condition. An error is of type [Errors].
// The empty condition is valid and always Undefined.
func ParseCondition(text string) (*Condition, error) {
	tokens, err := scan(text, false)
	if err != nil {
		return nil, Errors{err}
	}
	if len(tokens) == 1 {
		return &Condition{eval: func(*Input) Result { return Undefined }}, nil
	}
	tree, err := parseTokens(conditionParser, tokens, false)
	if err != nil {
		return nil, Errors{err}
	}
	return new(compiler).condition(tree, text)
}

func (c *compiler) condition(tree *expression, text string) (*Condition, error) {
	whole := c.expression(tree)
	if len(c.errors) > 0 {
		slices.SortStableFunc(c.errors, func(a, b *Error) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Column - b.Column
		})
		return nil, c.errors
	}
	return &Condition{text: strings.TrimSpace(text), eval: whole.outcome()}, nil
}

// Eval evaluates the condition for a message. Only True is a match.
func (c *Condition) Eval(in *Input) Result { return c.eval(in) }

// String returns the condition as it was written, without blanks around it.
func (c *Condition) String() string { return c.text }

// conditionText returns the part of a route's text between WHERE and INTO.
func conditionText(text string, tokens []lexer.Token) string {
	var from, to int
	for _, token := range tokens {
		switch token.Type {
		case tokenWhere:
			from = token.Pos.Offset + len(token.Value)
		case tokenInto:
			to = token.Pos.Offset
		}
	}
	return text[from:to]
}
