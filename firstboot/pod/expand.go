package pod

import (
	"errors"
	"fmt"
	"strings"
)

// expand replaces variables as the Compose specification says (section
// "Interpolation"): $NAME, ${NAME}, and with :- - :? ? :+ + and a word that may
// itself have variables; $$ is a dollar sign. A name that is not set is empty.
func expand(s string, env map[string]string) (string, error) {
	out, rest, err := expandTo(s, env, false, 0)
	if err == nil && rest != "" {
		err = fmt.Errorf("%q is left over", rest)
	}
	return out, err
}

// maxNesting bounds ${A:-${B:-...}}.
const maxNesting = 20

// expandTo expands up to the end, or inside braces up to the closing one, which
// rest begins after.
func expandTo(s string, env map[string]string, inside bool, depth int) (out, rest string, err error) {
	if depth > maxNesting {
		return "", "", errors.New("variables are nested too deep")
	}
	var b strings.Builder
	for s != "" {
		c := s[0]
		switch {
		case inside && c == '}':
			return b.String(), s[1:], nil
		case c != '$':
			b.WriteByte(c)
			s = s[1:]
		case strings.HasPrefix(s, "$$"):
			b.WriteByte('$')
			s = s[2:]
		case strings.HasPrefix(s, "${"):
			var word string
			if word, s, err = braces(s[2:], env, depth); err != nil {
				return "", "", err
			}
			b.WriteString(word)
		default:
			n := nameLen(s[1:])
			if n == 0 {
				return "", "", errors.New("a $ stands before no name: write $$ for the sign itself")
			}
			b.WriteString(env[s[1:1+n]])
			s = s[1+n:]
		}
	}
	if inside {
		return "", "", errors.New("a ${ is not closed")
	}
	return b.String(), "", nil
}

// braces expands what follows "${".
func braces(s string, env map[string]string, depth int) (out, rest string, err error) {
	n := nameLen(s)
	if n == 0 {
		return "", "", errors.New("${ stands before no name")
	}
	name := s[:n]
	s = s[n:]
	value, set := env[name]
	if strings.HasPrefix(s, "}") {
		return value, s[1:], nil
	}
	if rest, ok := strings.CutPrefix(s, ":"); ok {
		set = set && value != ""
		s = rest
	}
	if s == "" || !strings.Contains("-?+", s[:1]) {
		return "", "", fmt.Errorf("${%s is followed by none of } - :- ? :? + :+", name)
	}
	op := s[0]
	word, rest, err := expandTo(s[1:], env, true, depth+1)
	switch {
	case err != nil:
		return "", "", err
	case op == '+' && !set:
		return "", rest, nil
	case op == '+':
		return word, rest, nil
	case set:
		return value, rest, nil
	case op == '?':
		return "", "", fmt.Errorf("variable %s is needed: %s", name, word)
	}
	return word, rest, nil
}

// nameLen is the length of the variable name at the start of s.
func nameLen(s string) int {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

// ParseEnv reads a file of NAME=VALUE lines as Compose does: comments, export,
// single quotes for text as it is, double quotes with \n \t \" \\ \$, and
// variables everywhere but in single quotes, from env and then from the lines
// before. A value is one line. Names without a value are taken from env.
func ParseEnv(file string, content []byte, env map[string]string) (map[string]string, error) {
	var ps problems
	out, known := map[string]string{}, map[string]string{}
	line := 0
	for text := range strings.Lines(string(content)) {
		line++
		at := &value{file: file, line: line, col: 1}
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		text = strings.TrimLeft(strings.TrimPrefix(text, "export "), " \t")
		name, raw, assigned := strings.Cut(text, "=")
		name = strings.TrimSpace(name)
		if name == "" || nameLen(name) != len(name) {
			ps.at(at, "", "%.40q is no name of a variable", name)
			continue
		}
		if !assigned {
			if v, ok := env[name]; ok {
				out[name] = v
			}
			continue
		}
		for k, v := range env {
			known[k] = v
		}
		v, err := envValue(strings.TrimSpace(raw), known)
		if err != nil {
			ps.at(at, name, "%v", err)
			continue
		}
		out[name] = v
		known[name] = v
	}
	return out, ps.err()
}

var unescape = strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", `\"`, `"`, `\\`, `\`, `\$`, "$$")

func envValue(s string, env map[string]string) (string, error) {
	if s == "" {
		return "", nil
	}
	quote := s[0]
	if quote != '"' && quote != '\'' {
		if i := strings.Index(s, " #"); i >= 0 {
			s = s[:i]
		}
		return expand(strings.TrimSpace(s), env)
	}
	end := 1
	for end < len(s) && s[end] != quote {
		if s[end] == '\\' && quote == '"' {
			end++
		}
		end++
	}
	if end >= len(s) {
		return "", errors.New("a quote is not closed")
	}
	if rest := strings.TrimSpace(s[end+1:]); rest != "" && rest[0] != '#' {
		return "", errors.New("something follows the closing quote")
	}
	if quote == '\'' {
		return s[1:end], nil
	}
	return expand(unescape.Replace(s[1:end]), env)
}
