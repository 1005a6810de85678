package query

import "strings"

// sort is what a token is.
type sort uint8

const (
	word   sort = iota // letters, digits and _ $ -, not a digit or dash first
	quoted             // what stood in quotes, without them
	number
	sign
)

type token struct {
	sort sort
	text string
}

// scan cuts a query into tokens.
func scan(text string) ([]token, error) {
	var out []token
	for text = strings.TrimLeft(text, blanks); text != ""; text = strings.TrimLeft(text, blanks) {
		t, length, err := scanOne(text)
		if err != nil {
			return nil, err
		}
		out, text = append(out, t), text[length:]
	}
	return out, nil
}

const blanks = " \t\r\n"

func scanOne(text string) (t token, length int, err error) {
	switch b := text[0]; {
	case b == '\'' || b == '"':
		return scanQuoted(text)
	case isLetter(b):
		n := span(text, func(b byte) bool { return isLetter(b) || isDigit(b) || b == '-' })
		return token{word, text[:n]}, n, nil
	case isDigit(b) || b == '-':
		n := 1 + span(text[1:], func(b byte) bool { return isDigit(b) || strings.IndexByte(".eE+-", b) >= 0 })
		return token{number, text[:n]}, n, nil
	case strings.HasPrefix(text, "!=") || strings.HasPrefix(text, "<>"):
		return token{sign, text[:2]}, 2, nil
	case strings.IndexByte("*=.,()[]", b) >= 0:
		return token{sign, text[:1]}, 1, nil
	}
	return token{}, 0, badQuery("it has a character that means nothing here")
}

// scanQuoted reads a text in single or double quotes; a quote in it is written twice.
func scanQuoted(text string) (token, int, error) {
	var value strings.Builder
	for i := 1; i < len(text); i++ {
		if text[i] != text[0] {
			value.WriteByte(text[i])
			continue
		}
		if i+1 == len(text) || text[i+1] != text[0] {
			return token{quoted, value.String()}, i + 1, nil
		}
		value.WriteByte(text[0])
		i++
	}
	return token{}, 0, badQuery("a quote is left open")
}

// span is how many bytes at the beginning of a text are so.
func span(text string, is func(byte) bool) int {
	for i := range len(text) {
		if !is(text[i]) {
			return i
		}
	}
	return len(text)
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' || b == '_' || b == '$' }

func isDigit(b byte) bool { return b >= '0' && b <= '9' }
