package settings

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"

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
