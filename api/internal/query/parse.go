package query

import (
	"strconv"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

const (
	maxQuery = 4096 // characters
	maxNest  = 16   // parentheses in one another
)

// parsed is what a query's text says.
type parsed struct {
	from  string    // as written; "" when there is none
	where condition // nil when there is none
}

// parse reads a query (§4.5); words are in any case, names are not:
//
//	query     = "*" | SELECT "*" [FROM name] [WHERE either]
//	either    = both { OR both }
//	both      = term { AND term }
//	term      = "(" either ")" | field ("=" | "!=" | "<>") value | field IN list
//	field     = name { "." name }
//	value     = 'text' | "text" | number | true | false
//	list      = "(" value { "," value } ")" | "[" value { "," value } "]"
//
// A lone "*" is what npm's samples send. Anything else is Malformed, rule "query".
func parse(text string) (parsed, error) {
	if len(text) > maxQuery {
		return parsed{}, badQuery("it is too long")
	}
	tokens, err := scan(text)
	if err != nil {
		return parsed{}, err
	}
	p := &parser{tokens: tokens}
	if p.sign("*") && p.end() {
		return parsed{}, nil
	}
	p.next = 0
	if !p.word("select") || !p.sign("*") {
		return parsed{}, badQuery("only SELECT * is answered")
	}
	var out parsed
	if p.word("from") {
		if out.from, err = p.name(); err != nil {
			return parsed{}, err
		}
	}
	if p.word("where") {
		if out.where, err = p.either(0); err != nil {
			return parsed{}, err
		}
	}
	if !p.end() {
		return parsed{}, badQuery("it goes on where it should end: " + p.tokens[p.next].text)
	}
	return out, nil
}

func badQuery(why string) error {
	return fault.New(fault.Malformed, "query", "The query cannot be answered: %s.", why)
}

type parser struct {
	tokens []token
	next   int
}

func (p *parser) end() bool { return p.next == len(p.tokens) }

// take returns the next token if it is of the sort.
func (p *parser) take(s sort) (string, bool) {
	if p.end() || p.tokens[p.next].sort != s {
		return "", false
	}
	p.next++
	return p.tokens[p.next-1].text, true
}

func (p *parser) sign(s string) bool { return p.exactly(sign, s) }

func (p *parser) word(s string) bool { return p.exactly(word, s) }

func (p *parser) exactly(s sort, text string) bool {
	if p.end() || p.tokens[p.next].sort != s || !strings.EqualFold(p.tokens[p.next].text, text) {
		return false
	}
	p.next++
	return true
}

func (p *parser) name() (string, error) {
	name, ok := p.take(word)
	if !ok {
		return "", badQuery("a name is missing")
	}
	return name, nil
}

func (p *parser) either(nest int) (condition, error) {
	first, err := p.both(nest)
	parts := one{first}
	for err == nil && p.word("or") {
		var next condition
		next, err = p.both(nest)
		parts = append(parts, next)
	}
	if len(parts) == 1 {
		return first, err
	}
	return parts, err
}

func (p *parser) both(nest int) (condition, error) {
	first, err := p.term(nest)
	parts := all{first}
	for err == nil && p.word("and") {
		var next condition
		next, err = p.term(nest)
		parts = append(parts, next)
	}
	if len(parts) == 1 {
		return first, err
	}
	return parts, err
}

func (p *parser) term(nest int) (condition, error) {
	if !p.sign("(") {
		return p.comparison()
	}
	if nest == maxNest {
		return nil, badQuery("its parentheses are nested too deep")
	}
	inner, err := p.either(nest + 1)
	if err == nil && !p.sign(")") {
		err = badQuery("a parenthesis is left open")
	}
	return inner, err
}

func (p *parser) comparison() (condition, error) {
	field, err := p.field()
	if err != nil {
		return nil, err
	}
	c := comparison{field: field}
	switch {
	case p.word("in"):
		c.values, err = p.list()
		return c, err
	case p.sign("="):
	case p.sign("!="), p.sign("<>"):
		c.unequal = true
	default:
		return nil, badQuery("a field is compared with = or !=, or by IN")
	}
	v, err := p.value()
	c.values = []any{v}
	return c, err
}

func (p *parser) field() ([]string, error) {
	var names []string
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		if names = append(names, name); !p.sign(".") {
			return names, nil
		}
	}
}

func (p *parser) list() ([]any, error) {
	end := ")"
	if p.sign("[") {
		end = "]"
	} else if !p.sign("(") {
		return nil, badQuery("IN needs a list")
	}
	var values []any
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		if p.sign(end) {
			return values, nil
		}
		if !p.sign(",") {
			return nil, badQuery("a list is left open")
		}
	}
}

func (p *parser) value() (any, error) {
	if s, ok := p.take(quoted); ok {
		return s, nil
	}
	if s, ok := p.take(number); ok {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, badQuery("a number cannot be read")
		}
		return n, nil
	}
	switch {
	case p.word("true"):
		return true, nil
	case p.word("false"):
		return false, nil
	}
	return nil, badQuery("a value is missing: a text in quotes, a number, true or false")
}
