package scenario

import (
	"errors"
	"strings"
)

// words splits a line as a POSIX shell splits one without expansions: at white
// space; single quotes keep everything, double quotes everything but \" and \\.
// Outside quotes there is no backslash.
func words(line string) ([]string, error) {
	var all []string
	var b strings.Builder
	in, any := rune(0), false // the quote that is open; whether there is a word
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case in == '\'':
			if r == '\'' {
				in = 0
			} else {
				b.WriteRune(r)
			}
		case in == '"':
			switch {
			case r == '"':
				in = 0
			case r == '\\' && i+1 < len(runes) && (runes[i+1] == '"' || runes[i+1] == '\\'):
				i++
				b.WriteRune(runes[i])
			default:
				b.WriteRune(r)
			}
		case r == '\'' || r == '"':
			in, any = r, true
		case r == '\\':
			// A shell would drop it, and the regular expression that it was
			// written for would be another one.
			return nil, errors.New("a backslash outside quotes: put the word in quotes")
		case r == ' ' || r == '\t' || r == '\n':
			if any {
				all = append(all, b.String())
			}
			b.Reset()
			any = false
		default:
			b.WriteRune(r)
			any = true
		}
	}
	if in != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if any {
		all = append(all, b.String())
	}
	return all, nil
}
