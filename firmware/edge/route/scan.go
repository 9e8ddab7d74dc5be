package route

import (
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/participle/v2/lexer"
)

// Limits that keep a hostile text from exhausting stack or time. The parser
// recurses only into parentheses and evaluation only into operators, so these
// two bound both.
const (
	// MaxLength is how many bytes a route or a condition may have.
	MaxLength = 16 << 10
	// MaxDepth is how deeply parentheses may be nested.
	MaxDepth = 64
)

const (
	tokenName     lexer.TokenType = -iota - 2 // application property or function
	tokenPath                                 // $name, $body.path
	tokenNumber                               // integer, hex or real
	tokenString                               // with its quotes
	tokenWord                                 // true, false, null, undefined
	tokenOperator                             // between two operands; - also before one
	tokenNot
	tokenPunct  // ( ) , { }
	tokenSource // the path after FROM
	tokenSelect
	tokenFrom
	tokenWhere
	tokenInto
)

var symbols = map[string]lexer.TokenType{
	"EOF": lexer.EOF, "Name": tokenName, "Path": tokenPath, "Number": tokenNumber,
	"String": tokenString, "Word": tokenWord, "Operator": tokenOperator, "Not": tokenNot,
	"Punct": tokenPunct, "Source": tokenSource, "Select": tokenSelect, "From": tokenFrom,
	"Where": tokenWhere, "Into": tokenInto,
}

// keywords are recognised in any case.
var keywords = map[string]lexer.TokenType{
	"AND": tokenOperator, "OR": tokenOperator, "NOT": tokenNot,
	"SELECT": tokenSelect, "FROM": tokenFrom, "WHERE": tokenWhere, "INTO": tokenInto,
}

// words are recognised in lower case only, as in Edge Hub: TRUE is a property.
var words = map[string]bool{"true": true, "false": true, "null": true, "undefined": true}

// operators with the longer before the shorter that it starts with.
var operators = []string{"||", "??", "!=", "<>", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%"}

const numeral = `(?:0[xX][0-9a-fA-F]+|[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?)`

var (
	wholeNumber = regexp.MustCompile(`^-?` + numeral + `$`)
	// arithmetic is a run of name characters that nobody means as a name: 1+2.
	arithmetic  = regexp.MustCompile(`^-?` + numeral + `(?:[-+*%]-?` + numeral + `)+$`)
	firstNumber = regexp.MustCompile(`^-?` + numeral)
)

// definition adapts scan to the parser library.
type definition struct{ symbols map[string]lexer.TokenType }

func (d definition) Symbols() map[string]lexer.TokenType { return d.symbols }

func (definition) Lex(_ string, r io.Reader) (lexer.Lexer, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	tokens, problem := scan(string(text), false)
	if problem != nil {
		return nil, problem
	}
	return &replay{tokens: tokens}, nil
}

// replay hands out tokens that were scanned before.
type replay struct{ tokens []lexer.Token }

func (r *replay) Next() (lexer.Token, error) {
	token := r.tokens[0]
	if !token.EOF() {
		r.tokens = r.tokens[1:]
	}
	return token, nil
}

// scanner cuts a text into tokens. It is written by hand because what a
// character means depends on what stands before it: after an operand "-" is
// an operator, elsewhere it starts a negative number or a name, and after FROM
// "/*" is the end of a source and not a comment.
type scanner struct {
	text   string
	pos    lexer.Position
	tokens []lexer.Token
	depth  int
}

// scan returns the tokens of a route or of a condition, the last being EOF.
func scan(text string, route bool) ([]lexer.Token, *Error) {
	s := &scanner{text: text, pos: lexer.Position{Line: 1, Column: 1}}
	if len(text) > MaxLength {
		return nil, errorAt(s.pos, "too long: %d bytes, at most %d are allowed", len(text), MaxLength)
	}
	if !utf8.ValidString(text) {
		return nil, errorAt(s.pos, "not valid UTF-8")
	}
	sourceSeen := !route
	for {
		if err := s.skipBlanks(); err != nil {
			return nil, err
		}
		if s.rest() == "" {
			s.tokens = append(s.tokens, lexer.EOFToken(s.pos))
			return s.tokens, nil
		}
		if err := s.next(); err != nil {
			return nil, err
		}
		// A misspelled FROM has to be reported here: what follows it would be
		// scanned as a condition, where "/*" starts a comment.
		if last, _ := s.last(); !sourceSeen {
			before := s.tokens[:len(s.tokens)-1]
			switch last.Type {
			case tokenFrom:
				sourceSeen = true
			case tokenSelect, tokenOperator:
			default:
				return nil, explain(before, last, route)
			}
		}
	}
}

func (s *scanner) rest() string { return s.text[s.pos.Offset:] }

// take turns the next length bytes into a token.
func (s *scanner) take(kind lexer.TokenType, length int) {
	value := s.rest()[:length]
	s.tokens = append(s.tokens, lexer.Token{Type: kind, Value: value, Pos: s.pos})
	s.pos.Advance(value)
}

func (s *scanner) last() (lexer.Token, bool) {
	if len(s.tokens) == 0 {
		return lexer.Token{}, false
	}
	return s.tokens[len(s.tokens)-1], true
}

func (s *scanner) skipBlanks() *Error {
	for {
		blanks := len(s.rest()) - len(strings.TrimLeft(s.rest(), " \t\r\n"))
		s.pos.Advance(s.rest()[:blanks])
		last, _ := s.last()
		if !strings.HasPrefix(s.rest(), "/*") || last.Type == tokenFrom {
			return nil
		}
		end := strings.Index(s.rest()[2:], "*/")
		if end < 0 {
			return errorAt(s.pos, "the comment is not closed: expected */")
		}
		s.pos.Advance(s.rest()[:end+4])
	}
}

func (s *scanner) next() *Error {
	rest := s.rest()
	last, any := s.last()
	afterOperand := any && endsOperand(last)

	if any && last.Type == tokenFrom {
		run := strings.IndexFunc(rest, unicode.IsSpace)
		if run < 0 {
			run = len(rest)
		}
		kind, reserved := keywords[strings.ToUpper(rest[:run])]
		if !reserved {
			kind = tokenSource
		}
		s.take(kind, run)
		return nil
	}

	switch c := rest[0]; {
	case strings.IndexByte("(){},", c) >= 0:
		return s.punctuation(c)
	case (c == '"' || c == '\'') && !afterOperand:
		return s.quoted()
	}
	for _, operator := range operators {
		if !strings.HasPrefix(rest, operator) {
			continue
		}
		// Where an operand is expected, only a lone operator is one: -1 is a
		// number, -x a name.
		if afterOperand || !isNameByte(operator[0]) || nameLength(rest) == len(operator) {
			s.take(tokenOperator, len(operator))
			return nil
		}
	}
	if rest[0] == '$' {
		if run := pathLength(rest); run > 1 {
			s.take(tokenPath, run)
			return nil
		}
	}
	return s.nameOrNumber()
}

func (s *scanner) punctuation(c byte) *Error {
	switch c {
	case '(':
		if s.depth++; s.depth > MaxDepth {
			return errorAt(s.pos, "parentheses are nested more than %d deep", MaxDepth)
		}
	case ')':
		s.depth--
	}
	s.take(tokenPunct, 1)
	return nil
}

func (s *scanner) quoted() *Error {
	rest := s.rest()
	quote := rest[0]
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case quote:
			s.take(tokenString, i+1)
			return nil
		case '\\':
			length := escapeLength(rest[i:])
			if length == 0 {
				at := s.pos
				at.Advance(rest[:i])
				return errorAt(at, `unknown escape in a text: expected \", \', \\ or \u and four hex digits`)
			}
			i += length - 1
		}
	}
	return errorAt(s.pos, "unterminated string: expected a closing %c", quote)
}

// escapeLength returns the length of the escape that text starts with, 0 when
// there is none of that kind.
func escapeLength(text string) int {
	if len(text) >= 2 && strings.IndexByte(`"'\`, text[1]) >= 0 {
		return 2
	}
	if len(text) >= 6 && text[1] == 'u' {
		if _, err := strconv.ParseUint(text[2:6], 16, 16); err == nil {
			return 6
		}
	}
	return 0
}

func (s *scanner) nameOrNumber() *Error {
	rest := s.rest()
	run := nameLength(rest)
	if run == 0 {
		symbol, _ := utf8.DecodeRuneInString(rest)
		hint := ""
		if symbol == '[' || symbol == ']' {
			hint = ": an index is only allowed in a path into the body, as in $body.values[0]"
		}
		return errorAt(s.pos, "invalid symbol %q%s", symbol, hint)
	}
	name := rest[:run]
	switch keyword, reserved := keywords[strings.ToUpper(name)]; {
	case reserved:
		s.take(keyword, run)
	case words[name]:
		s.take(tokenWord, run)
	case wholeNumber.MatchString(name):
		s.take(tokenNumber, run)
	case arithmetic.MatchString(name):
		s.take(tokenNumber, len(firstNumber.FindString(name)))
	default:
		s.take(tokenName, run)
	}
	return nil
}

// endsOperand tells whether an operator, and no operand, may follow a token.
func endsOperand(token lexer.Token) bool {
	switch token.Type {
	case tokenName, tokenPath, tokenNumber, tokenString, tokenWord:
		return true
	case tokenPunct:
		return token.Value == ")" || token.Value == "}"
	}
	return false
}

// isNameByte tells whether a byte can be part of a name; every byte of a
// character beyond ASCII can.
func isNameByte(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte(`()<>@,;:\"/[]?={}`, c) < 0
}

func nameLength(text string) int { return runLength(text, "") }
func pathLength(text string) int { return runLength(text, "[]") }

func runLength(text, also string) int {
	for i := 0; i < len(text); i++ {
		if !isNameByte(text[i]) && strings.IndexByte(also, text[i]) < 0 {
			return i
		}
		if i > 0 && (strings.HasPrefix(text[i:], "||") || strings.HasPrefix(text[i:], "!=")) {
			return i
		}
	}
	return len(text)
}
