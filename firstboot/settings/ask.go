package settings

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

// A terminal asks one question. hide is for secrets.
type terminal func(question string, hide bool) (string, error)

func terminalOf(stdin io.Reader) func(stdout io.Writer) terminal {
	f, ok := stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(stdout io.Writer) terminal {
		in := bufio.NewReaderSize(f, 4096)
		return func(question string, hide bool) (string, error) {
			fmt.Fprint(stdout, question)
			if hide {
				b, err := term.ReadPassword(int(f.Fd()))
				fmt.Fprintln(stdout)
				return string(b), err
			}
			line, err := in.ReadString('\n')
			if err != nil {
				return "", err
			}
			return strings.TrimSpace(line), nil
		}
	}
}

// ask goes through the keys that have a question. An empty answer keeps what
// is there; a wrong one is asked again.
func ask(on func(io.Writer) terminal, stdout io.Writer, current Settings, known string, said map[string]string) error {
	t := on(stdout)
	fmt.Fprint(stdout, "Enter keeps what stands in brackets.\n")
	trial := current
	for i := range Keys {
		k := &Keys[i]
		if k.Ask == "" || !wanted(k, &trial) || k.Name == "domain" && known != "" {
			continue
		}
		now := k.get(&trial)
		shown := now
		if k.Secret && now != "" {
			shown = hidden
		}
		for {
			answer, err := t(question(k, shown), k.Secret)
			if err != nil {
				return err
			}
			if answer == "" {
				if now != "" || k.Name != "domain" && !k.Secret {
					break
				}
				fmt.Fprint(stdout, "  This one is needed.\n")
				continue
			}
			if k.Kind == Bool {
				answer = yesOrNo(answer)
			}
			if f := k.set(&trial, answer); f != nil {
				fmt.Fprintf(stdout, "  %s %s.\n", k.Name, f.message)
				if f.hint != "" {
					fmt.Fprintf(stdout, "  Please %s.\n", f.hint)
				}
				continue
			}
			said[k.Name] = answer
			break
		}
	}
	return nil
}

// wanted leaves out questions that earlier answers have made idle: those for a
// mail server that there is not, and the password of nobody.
func wanted(k *Key, s *Settings) bool {
	if s.SMTP.Host == "" && (strings.HasPrefix(k.Name, "smtp.") && k.Name != "smtp.host" || k.Needs == "smtp.host") {
		return false
	}
	return !k.Secret || slices.Contains([]string{"", k.Name}, k.Needs) || Find(k.Needs).get(s) != ""
}

func question(k *Key, shown string) string {
	if k.Kind == Bool {
		shown = map[string]string{"true": "yes", "false": "no"}[shown]
	}
	if shown == "" {
		shown = "none"
		if k.Name == "domain" {
			return k.Ask + ": "
		}
	}
	return fmt.Sprintf("%s [%s]: ", k.Ask, shown)
}

func yesOrNo(answer string) string {
	switch strings.ToLower(answer) {
	case "y", "yes":
		return "true"
	case "n", "no":
		return "false"
	}
	return answer
}
