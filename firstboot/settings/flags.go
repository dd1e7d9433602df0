package settings

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/prose-im/prose-image/cloudinit"
)

// flagName is the flag of a key: smtp.host is --smtp-host. What must not stand
// on a command line, where every process sees it, or does not fit there, comes
// from a file.
func (k *Key) flagName() string {
	name := strings.ReplaceAll(k.Name, ".", "-")
	if k.Secret || k.Kind == PEM {
		name += "-file"
	}
	return name
}

// parseFlags fills said with what the flags say, by key.
func parseFlags(args []string, stdin io.Reader, stderr io.Writer, said map[string]string) (*flag.FlagSet, error) {
	flags := flag.NewFlagSet("configure", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the package prints what was wrong, with the value
	var usedStdin string
	for i := range Keys {
		k := &Keys[i]
		set := func(v string) error {
			if !k.Secret && k.Kind != PEM {
				said[k.Name] = v
				return nil
			}
			in := stdin
			if v == "-" {
				if usedStdin != "" {
					return fmt.Errorf("%s reads standard input already", usedStdin)
				}
				usedStdin = k.Name
			} else {
				f, err := os.Open(v)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			b, err := io.ReadAll(io.LimitReader(in, cloudinit.MaxInput))
			if err != nil {
				return err
			}
			text := string(b)
			if k.Kind != PEM {
				text = strings.TrimRight(text, "\r\n")
			}
			if text == "" {
				return errors.New("it is empty")
			}
			said[k.Name] = text
			return nil
		}
		if k.Kind == Bool {
			flags.BoolFunc(k.flagName(), k.Doc, set)
			continue
		}
		flags.Func(k.flagName(), k.Doc, set)
	}
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		usage(stderr)
	}
	return flags, err
}

func usage(w io.Writer) {
	fmt.Fprint(w, `usage: prose-firstboot configure [FLAG VALUE]...

Sets up this machine. Without flags it asks. An empty value takes back what
configure said before.

`)
	for i := range Keys {
		k := &Keys[i]
		value := " " + map[Kind]string{Text: "TEXT", Number: "N", PEM: "FILE", List: "TEXT,..."}[k.Kind]
		if k.Secret {
			value = " FILE"
		}
		if k.Kind == Bool {
			value = "[=false]"
		}
		doc := k.Doc
		if k.Default != "" {
			doc += " (default " + k.Default + ")"
		}
		fmt.Fprintf(w, "  --%s%s\n        %s\n", k.flagName(), value, doc)
	}
	fmt.Fprint(w, `
FILE may be - for standard input.

Example:
  prose-firstboot configure --domain example.org --smtp-host smtp.example.org \
      --smtp-username prose@example.org --smtp-password-file -
`)
}
