package settings

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/prose-im/prose-image/cloudinit"
)

// configureFile is what Configure writes: after what user-data wrote and
// before what the owner calls 60 and more.
const configureFile = cloudinit.SettingsDir + "/50-configure.yaml"

// Configure is the verb of that name: it takes settings as flags, or asks for
// them when there are none and stdin is a terminal, checks them together with
// all others below root, and writes them to a file of their own. known is the
// domain that this machine has been set up for, empty when it has not: it
// cannot change. The result is an exit code: 0 done, 1 failed, 2 wrong input.
func Configure(args []string, stdin io.Reader, stdout, stderr io.Writer, root, known string) int {
	said := map[string]string{}
	flags, err := parseFlags(args, stdin, stderr, said)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%d arguments that are no flags", flags.NArg())
	}
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\nhint: prose-firstboot configure --help\n", err)
		return 2
	}

	path := filepath.Join(root, configureFile)
	before, err := readOwn(path)
	if err != nil {
		fmt.Fprintf(stderr, "error: reading %s: %v\nhint: move the file away\n", configureFile, err)
		return 2
	}
	current, _ := Load(root)
	if len(said) == 0 {
		t := terminalOf(stdin)
		if t == nil {
			fmt.Fprint(stderr, "error: nothing to set, and no terminal to ask on\nhint: prose-firstboot configure --domain example.org\n")
			return 2
		}
		if err := ask(t, stdout, current, known, said); err != nil {
			fmt.Fprintf(stderr, "\nerror: asking: %v\n", err)
			return 1
		}
	}

	after := map[string]string{}
	for name, v := range before {
		after[name] = v
	}
	for name, v := range said {
		if v == "" {
			delete(after, name)
			continue
		}
		after[name] = v
	}
	text := document(after)
	if problems, elsewhere := judge(root, text, said, known); len(problems) > 0 {
		fmt.Fprint(stderr, draw(problems))
		fmt.Fprint(stderr, "nothing was changed\n")
		return 2
	} else if len(elsewhere) > 0 {
		defer func() {
			fmt.Fprint(stderr, "what follows stands elsewhere and is still wrong:\n"+draw(elsewhere))
		}()
	}
	if err := write(filepath.Join(root, cloudinit.SettingsDir), filepath.Base(configureFile), text); err != nil {
		fmt.Fprintf(stderr, "error: writing %s: %v\n", configureFile, err)
		return 1
	}
	fmt.Fprintf(stdout, "settings written to %s\n", configureFile)
	return 0
}

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

// readOwn is what an earlier Configure wrote, by key; nothing when it did not.
func readOwn(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, bare(err)
	}
	var c collector
	c.document(configureFile, text)
	own := map[string]string{}
	for _, e := range c.entries {
		own[e.key.Name] = e.value.text // it writes lists as texts
	}
	if len(c.report.Problems) > 0 {
		return nil, errors.New(c.report.Problems[0].Message)
	}
	return own, nil
}

// judge says what is wrong with text as configure's file: what the owner can
// mend by saying it better, and what stands in other places.
func judge(root string, text []byte, said map[string]string, known string) (ours, elsewhere []Problem) {
	var c collector
	c.files(root, text)
	c.instance(root)
	s, r := c.merge()
	for _, p := range r.Problems {
		if p.At.Path == configureFile {
			p.At.Line = 0
			p.At.Path = "configure"
			ours = append(ours, p)
		} else {
			elsewhere = append(elsewhere, p)
		}
	}
	for _, x := range r.Conflicts {
		if _, ok := said[x.Key]; ok && x.Ignored.Path == configureFile {
			ours = append(ours, Problem{At: x.Used, Key: x.Key, Message: "is set here already, and this counts first", Hint: "change it here"})
		}
	}
	if _, ok := said["domain"]; ok && known != "" && s.Domain != known {
		ours = append(ours, Problem{At: Place{Source: Files, Path: "configure"}, Key: "domain",
			Message: fmt.Sprintf("cannot change: this machine has been set up for %s", known),
			Hint:    "start another machine for another domain"})
	}
	return ours, elsewhere
}

func draw(problems []Problem) string {
	r := Report{Problems: problems}
	return r.Draw()
}

// document is a file of settings in the order of the table. Strings are
// written as JSON writes them, which YAML reads.
func document(values map[string]string) []byte {
	var b strings.Builder
	b.WriteString("# Written by prose-firstboot configure.\n")
	var at []string // the tables that are open
	for i := range Keys {
		k := &Keys[i]
		v, ok := values[k.Name]
		if !ok {
			continue
		}
		parts := strings.Split(k.Name, ".")
		tables := parts[:len(parts)-1]
		same := 0
		for same < len(at) && same < len(tables) && at[same] == tables[same] {
			same++
		}
		for depth := same; depth < len(tables); depth++ {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", depth), tables[depth])
		}
		at = tables
		if k.Kind == Text || k.Kind == PEM || k.Kind == List || !plain(k, v) {
			v = quoteYAML(v)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", len(tables)), parts[len(parts)-1], v)
	}
	return []byte(b.String())
}

// plain reports whether v is a number or boolean that needs no quotes; what is
// neither is refused when the document is read.
func plain(k *Key, v string) bool {
	if k.Kind == Bool {
		return v == "true" || v == "false"
	}
	_, err := strconv.ParseUint(v, 10, 32)
	return err == nil && (v == "0" || v[0] != '0')
}

// quoteYAML writes s in double quotes (YAML 1.2 section 5.7).
func quoteYAML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r >= 0xfffe:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// write replaces a file in the settings' directory, which it makes when it is
// not there. After it returns nil the file outlasts a power cut.
func write(dir, name string, text []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	var c collector
	if what := c.tighten(d, dir, 0o700); what != "" {
		return errors.New("the directory " + what)
	}
	f, err := os.CreateTemp(dir, "."+name+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // of no effect once it is renamed
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err == nil {
		err = d.Sync()
	}
	return err
}

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
