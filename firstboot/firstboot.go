// Package firstboot is the agent that runs in the image.
//
// It is a level-triggered loop:
//
//	for { w := look(); s := next(w); tell(w, s); do(s) }
//
// look observes everything and changes nothing, next decides on one step and
// looks at nothing but w, do does it. What is remembered is a cache: a run that
// is killed at any instant is made good by the next one, which a timer starts.
package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/door"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/site"
	"github.com/prose-im/prose-image/firstboot/status"
)

// A call is one use of the program.
type call struct {
	args           []string
	in             io.Reader
	stdout, stderr io.Writer
	machine        *machine
}

// A verb is one command. run returns an exit code.
type verb struct {
	name, args, doc string
	run             func(ctx context.Context, c *call) int
}

// verbs are the commands, those for people first.
var verbs = []verb{
	{"status", "[--json | --zone | --prometheus]", "show what is done, and what waits for whom; exit code 0 ready, 2 degraded or working, 3 waiting for you, 1 broken, and with --prometheus always 0", showStatus},
	{"configure", "[--KEY VALUE]...", "set this machine up: asks, or takes flags", configure},
	{"link", "[--new]", "print the one-time link for the first account", printLink},
	{"renew", "[NAME]...", "get new certificates now; for all names unless some are given", renew},
	{"support", "[-o FILE]", "pack what helps others to help you, without secrets", support},
	{"reset", "[--domain DOMAIN]", "forget the domain with everything that belongs to it, and begin anew; asks for the domain unless it is given", reset},
	{"run", "", "look at the machine and do what is missing; the unit prose-firstboot does so every 20 seconds", runOnce},
	{"door", "", "check claims for NGINX; for the unit prose-door", serveDoor},
	{"datasource", "", "read user-data where there is no cloud-init; for the unit prose-datasource", datasource},
	{"version", "", "print the version", printVersion},
}

// Run is the whole program as a function of its arguments and streams. It
// returns the exit code.
func Run(args []string, in io.Reader, stdout, stderr io.Writer) int {
	// One small program on machines of one gibibyte: memory before speed.
	debug.SetGCPercent(40)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) == 0 || slices.Contains([]string{"help", "--help", "-h"}, args[0]) {
		out, code := stdout, 0
		if len(args) == 0 {
			out, code = stderr, 2
		}
		fmt.Fprint(out, usage())
		return code
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	for _, v := range verbs {
		if v.name == args[0] {
			return v.run(ctx, &call{args[1:], in, stdout, stderr, thisMachine()})
		}
	}
	fmt.Fprintf(stderr, "error: unknown command %q\nhint: prose-firstboot help\n", args[0])
	return 2
}

func usage() string {
	var b strings.Builder
	b.WriteString("prose-firstboot sets this machine up as a Prose Pod and keeps it running.\n\nUsage: prose-firstboot COMMAND\n\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "  %s\n        %s\n", strings.TrimSpace(v.name+" "+v.args), v.doc)
	}
	b.WriteString("\nExample:\n  sudo prose-firstboot configure --domain example.org\n  prose-firstboot status\n")
	return b.String()
}

// fail prints an error with a hint, and is the exit code.
func (c *call) fail(code int, hint, format string, args ...any) int {
	fmt.Fprintf(c.stderr, "error: %v\n", fmt.Errorf(format, args...))
	if hint != "" {
		fmt.Fprintf(c.stderr, "hint: %s\n", hint)
	}
	return code
}

// flag takes a flag without a value out of the arguments.
func (c *call) flag(name string) bool {
	i := slices.Index(c.args, name)
	if i < 0 {
		return false
	}
	c.args = slices.Delete(c.args, i, i+1)
	return true
}

// atMost says whether there are no more than n arguments left.
func (c *call) noMore(verb string) (int, bool) {
	if len(c.args) == 0 {
		return 0, true
	}
	return c.fail(2, "prose-firstboot help", "%s does not understand %q", verb, c.args[0]), false
}

func printVersion(_ context.Context, c *call) int {
	fmt.Fprintf(c.stdout, "prose-firstboot %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return 0
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func runOnce(ctx context.Context, c *call) int {
	if code, ok := c.noMore("run"); !ok {
		return code
	}
	if os.Geteuid() != 0 {
		return c.fail(1, "sudo prose-firstboot run", "only root can set the machine up")
	}
	if err := run(ctx, c.machine, c.stdout); err != nil {
		return c.fail(1, "", "%w", err)
	}
	return 0
}

func showStatus(_ context.Context, c *call) int {
	asJSON, zone, metrics := c.flag("--json"), c.flag("--zone"), c.flag("--prometheus")
	if code, ok := c.noMore("status"); !ok {
		return code
	}
	b, err := os.ReadFile(c.machine.path(statusPath))
	if errors.Is(err, os.ErrNotExist) {
		return c.fail(status.Working.ExitCode(), "wait a moment, or see: systemctl status prose-firstboot", "the agent has not looked at the machine since it started")
	}
	if err != nil {
		return c.fail(1, "", "reading the status: %w", err)
	}
	s, err := status.Decode(b)
	if err != nil {
		return c.fail(1, "sudo systemctl start prose-firstboot", "%w", err)
	}
	switch {
	case asJSON:
		c.stdout.Write(b)
	case metrics:
		// The state is among them: whoever keeps them does so in any state.
		fmt.Fprint(c.stdout, status.Metrics(s))
		return 0
	case zone:
		fmt.Fprint(c.stdout, status.Zone(s))
	default:
		fmt.Fprint(c.stdout, status.Text(s, layout(c.stdout)))
	}
	return s.State.ExitCode()
}

func layout(w io.Writer) status.Layout {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return status.Layout{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 80
	}
	return status.Layout{Width: min(width, 100), Colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func configure(ctx context.Context, c *call) int {
	known := ""
	if s, err := c.machine.loadState(); err == nil {
		known = s.Domain
	}
	code := settings.Configure(c.args, c.in, c.stdout, c.stderr, or(c.machine.at, "/"), known)
	if code == 0 && !slices.Contains(c.args, "--help") && !slices.Contains(c.args, "-h") {
		// The timer comes soon anyway.
		if err := kick(ctx); err == nil {
			fmt.Fprint(c.stdout, "the machine is being set up; see how far it is: prose-firstboot status\n")
		}
	}
	return code
}

func printLink(_ context.Context, c *call) int {
	fresh := c.flag("--new")
	if code, ok := c.noMore("link"); !ok {
		return code
	}
	if os.Geteuid() != 0 {
		return c.fail(1, "sudo prose-firstboot link", "the link is for root")
	}
	s, err := c.machine.loadState()
	switch {
	case err != nil:
		return c.fail(1, "", "%w", err)
	case s.Domain == "":
		return c.fail(1, "sudo prose-firstboot configure", "the machine has no domain yet")
	case s.Account:
		return c.fail(1, "https://admin.prose."+s.Domain+"/", "an account exists, so the dashboard is open to its owner and needs no link")
	}
	link, err := c.machine.link(s.Domain, fresh)
	if err != nil {
		return c.fail(1, "prose-firstboot status", "%w", err)
	}
	fmt.Fprintln(c.stdout, link)
	return 0
}

func renew(ctx context.Context, c *call) int {
	if os.Geteuid() != 0 {
		return c.fail(1, "sudo prose-firstboot renew", "only root can renew certificates")
	}
	m := c.machine
	s, err := m.loadState()
	if err != nil {
		return c.fail(1, "", "%w", err)
	}
	if s.Domain == "" {
		return c.fail(1, "sudo prose-firstboot configure", "the machine has no domain yet")
	}
	names := site.Names(s.Domain)
	if len(c.args) > 0 {
		for _, n := range c.args {
			if !slices.Contains(names, n) {
				return c.fail(2, "one of "+strings.Join(names, ", "), "%q is no name of this machine", n)
			}
		}
		names = c.args
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return c.fail(1, "try again in a minute", "%w", err)
	}
	k := certificate.Keeper{Paths: m.paths, Clock: m.clock}
	for _, n := range names {
		if err := k.Renew(n); err != nil {
			unlock()
			return c.fail(1, "", "%w", err)
		}
	}
	unlock()
	if err := kick(ctx); err != nil {
		return c.fail(1, "systemctl status prose-firstboot", "%w", err)
	}
	fmt.Fprintf(c.stdout, "new certificates are ordered for %s; see how far it is: prose-firstboot status\n", strings.Join(names, ", "))
	return 0
}

func serveDoor(ctx context.Context, c *call) int {
	if err := door.Serve(ctx, c.machine.dashboard+"/api", c.stderr); err != nil {
		return c.fail(1, "", "%w", err)
	}
	return 0
}
