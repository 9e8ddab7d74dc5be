package route

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"
)

// The syntax tree, in the notation of the parser library. Precedence is not in
// it: an expression is a flat list, which compile climbs by the table of
// precedences, so that nesting costs stack only where parentheses are.

type routeSyntax struct {
	Select bool        `parser:"( @Select '*' )?"`
	Source *sourceNode `parser:"From @@"`
	Where  *expression `parser:"( Where @@ )?"`
	Into   *sinkNode   `parser:"Into @@"`
}

type sourceNode struct {
	Pos  lexer.Position
	Text string `parser:"@Source"`
}

type sinkNode struct {
	Pos      lexer.Position
	System   string    `parser:"@Path"`
	Function string    `parser:"| @Name"`
	Address  *textNode `parser:"'(' @@ ')'"`
}

type textNode struct {
	Pos  lexer.Position
	Text string `parser:"@String"`
}

type expression struct {
	Pos   lexer.Position
	First *operand     `parser:"@@"`
	Rest  []*operation `parser:"@@*"`
}

type operation struct {
	Pos   lexer.Position
	Op    string   `parser:"@Operator"`
	Right *operand `parser:"@@"`
}

type operand struct {
	Pos      lexer.Position
	Prefixes []*prefix   `parser:"@@*"`
	Number   *numberNode `parser:"( @@"`
	Text     *string     `parser:"| @String"`
	Word     *string     `parser:"| @Word"`
	Path     *pathNode   `parser:"| @@"`
	Escaped  *pathNode   `parser:"| '{' @@ '}'"`
	Name     *nameNode   `parser:"| @@"`
	Group    *expression `parser:"| '(' @@ ')' )"`
}

type numberNode struct {
	Pos  lexer.Position
	Text string `parser:"@Number"`
}

type prefix struct {
	Pos lexer.Position
	Op  string `parser:"@( '-' | Not )"`
}

type pathNode struct {
	Pos  lexer.Position
	Text string `parser:"@Path"`
}

type nameNode struct {
	Pos  lexer.Position
	Name string     `parser:"@Name"`
	Call *arguments `parser:"@@?"`
}

type arguments struct {
	Open bool          `parser:"@'('"`
	List []*expression `parser:"( @@ ( ',' @@ )* )? ')'"`
}

// One token decides every alternative, so the parsers never look further and
// never go back: parsing is linear, and the error is where the parser stopped.
var (
	routeParser     = participle.MustBuild[routeSyntax](participle.Lexer(definition{symbols}), participle.UseLookahead(0))
	conditionParser = participle.MustBuild[expression](participle.Lexer(definition{symbols}), participle.UseLookahead(0))
)

func parseTokens[T any](parser *participle.Parser[T], tokens []lexer.Token, route bool) (*T, *Error) {
	peeking, err := lexer.Upgrade(&replay{tokens: tokens})
	if err != nil {
		return nil, errorAt(tokens[0].Pos, "%v", err)
	}
	tree, err := parser.ParseFromLexer(peeking)
	if err == nil {
		return tree, nil
	}
	var unexpected *participle.UnexpectedTokenError
	if errors.As(err, &unexpected) {
		return nil, explain(tokens, unexpected.Unexpected, route)
	}
	var other participle.Error
	if errors.As(err, &other) {
		return nil, errorAt(other.Position(), "%s", other.Message())
	}
	return nil, errorAt(tokens[0].Pos, "%v", err)
}

// What can come next, for messages.
const (
	aValue    = "a value: a literal, a property, $body.…, a function call or '('"
	aSource   = "a source such as /messages/* or /messages/modules/NAME/outputs/NAME"
	anOutlet  = `$upstream or BrokeredEndpoint("/modules/NAME/inputs/NAME")`
	anAddress = `an address in quotes: "/modules/NAME/inputs/NAME"`
)

// explain says what was expected where the parser met a token it cannot use.
// It works from the tokens before it; the parser library knows the same, but
// says it in the notation of the grammar, which helps no one who writes routes.
func explain(tokens []lexer.Token, at lexer.Token, route bool) *Error {
	found := "the end"
	if !at.EOF() {
		found = at.Value
	}
	var before []lexer.Token
	for _, token := range tokens {
		if token.Pos.Offset >= at.Pos.Offset {
			break
		}
		before = append(before, token)
	}
	open, condition := unclosed(before), inCondition(before, route)
	if condition && at.EOF() && len(before) > 0 && endsOperand(before[len(before)-1]) && len(open) > 0 {
		if paren := open[len(open)-1]; !paren.call {
			return errorAt(paren.pos, "missing closing ')' for this '('")
		}
		return errorAt(at.Pos, "expected an operator, ',' or ')' but found the end")
	}
	if condition && at.Value == ")" && len(open) == 0 {
		return errorAt(at.Pos, "unmatched closing ')': there is no '(' that it closes")
	}
	hint := ""
	switch {
	case at.Value == "=" && len(before) > 0 && before[len(before)-1].Value == "=":
		hint = " (equality is written with one =)"
	case at.Value == "&&":
		hint = " (use AND)"
	case at.Value == "|":
		hint = " (use OR, or || to join texts)"
	case condition && !route && (at.Type == tokenSelect || at.Type == tokenFrom || at.Type == tokenWhere || at.Type == tokenInto):
		hint = fmt.Sprintf(" (%s is a reserved word)", strings.ToUpper(at.Value))
	}
	wanted := expectedInRoute(before)
	if condition {
		wanted = expectedInCondition(before, open, route)
	}
	return errorAt(at.Pos, "expected %s but found %s%s", wanted, found, hint)
}

func expectedInCondition(before []lexer.Token, open []paren, route bool) string {
	var last, beforeLast lexer.Token
	if n := len(before); n > 0 {
		last = before[n-1]
		if n > 1 {
			beforeLast = before[n-2]
		}
	}
	inCall := len(open) > 0 && open[len(open)-1].call
	switch {
	case last.Value == "{":
		return "a name that starts with $"
	case last.Type == tokenPath && beforeLast.Value == "{":
		return "'}'"
	case last.Value == "(" && inCall:
		return aValue + ", or ')'"
	case !endsOperand(last):
		return aValue
	case inCall:
		return "an operator, ',' or ')'"
	case len(open) > 0:
		return "an operator or ')'"
	case route:
		return "an operator or INTO"
	}
	return "an operator or the end"
}

func expectedInRoute(before []lexer.Token) string {
	if len(before) == 0 {
		return "SELECT * FROM or FROM"
	}
	last := before[len(before)-1]
	switch last.Type {
	case tokenSelect:
		return "*"
	case tokenOperator:
		return "FROM"
	case tokenFrom:
		return aSource
	case tokenSource:
		return "WHERE or INTO"
	case tokenInto:
		return anOutlet
	case tokenName:
		return "'('"
	case tokenString:
		return "')'"
	}
	if last.Value == "(" {
		return anAddress
	}
	return "the end of the route"
}

// inCondition tells whether what follows these tokens belongs to a condition.
func inCondition(before []lexer.Token, route bool) bool {
	if !route {
		return true
	}
	for i := len(before) - 1; i >= 0; i-- {
		switch before[i].Type {
		case tokenWhere:
			return true
		case tokenInto:
			return false
		}
	}
	return false
}

type paren struct {
	pos  lexer.Position
	call bool // opens a function's arguments
}

func unclosed(tokens []lexer.Token) []paren {
	var open []paren
	for i, token := range tokens {
		if token.Type != tokenPunct {
			continue
		}
		switch token.Value {
		case "(":
			open = append(open, paren{token.Pos, i > 0 && tokens[i-1].Type == tokenName})
		case ")":
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	return open
}
