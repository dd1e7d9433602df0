package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// guestCommands look at the machine from within.
var guestCommands = []Command{
	{Name: "status", Args: "STATE", least: 1, most: 1, do: doStatus,
		valid: func(args []string) error { return oneOf(args[0], states) },
		Doc:   "Waits until `prose-firstboot status` says ready, degraded, working, waiting or broken."},
	{Name: "run", Args: "SCRIPT", least: 1, most: 1, do: doRun,
		Doc: "Runs a shell script as root in the guest; it must succeed."},
	{Name: "run-fails", Args: "SCRIPT", least: 1, most: 1, do: doRunFails,
		Doc: "Runs a shell script as root in the guest; it must fail."},
	{Name: "output", Args: "is|has|lacks TEXT", least: 2, most: 2, valid: validOutput, do: doOutput,
		Doc: "What the last script wrote, without white space around it, is this, or has a match of this regular expression, or none."},
	{Name: "save", Args: "NAME", least: 1, most: 1, do: doSave,
		Doc: "Keeps what the last script wrote; later steps have it as `{NAME}`."},
	{Name: "print", Args: "SCRIPT", least: 1, most: 1, do: doPrint,
		Doc: "Runs a script like run and prints what it wrote to standard output."},
	{Name: "say", Args: "TEXT", least: 1, most: 1, do: func(_ context.Context, r *run, args []string) error {
		_, err := fmt.Fprintln(r.config.Out, args[0])
		return err
	}, Doc: "Prints a text to standard output."},
	{Name: "pause", Args: "TIME", least: 1, most: 1, do: doPause,
		valid: func(args []string) error { _, err := time.ParseDuration(args[0]); return err },
		Doc:   "Does nothing for a while, for what must not happen meanwhile."},
	{Name: "settled", do: doSettled,
		Doc: "Waits until systemd and cloud-init have done all they had to; no unit has failed, and `cloud-init status` ends with 0."},
	{Name: "no-failed-units", do: doNoFailedUnits,
		Doc: "No unit of systemd has failed."},
}

// states are those of firstboot/status.
var states = []string{"ready", "degraded", "working", "waiting", "broken"}

func doStatus(ctx context.Context, r *run, args []string) error {
	for {
		state, err := r.status(ctx)
		if err == nil && state == args[0] {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("the state is %s", state)
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w\n%s", args[0], context.Cause(ctx), err, r.agent(context.WithoutCancel(ctx)))
		}
	}
}

// status is what the agent says. Its exit code repeats the state.
func (r *run) status(ctx context.Context) (string, error) {
	out, err := r.machine.root(ctx, "prose-firstboot status --json || test $? -le 3")
	if err != nil {
		return "", err
	}
	var s struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.State == "" {
		return "", fmt.Errorf("prose-firstboot status --json says %q", strings.TrimSpace(out))
	}
	return s.State, nil
}

// agent is what the agent says to people and what it has logged, for a reason.
func (r *run) agent(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, r.config.Accel.Scale(attempt))
	defer cancel()
	out, err := r.machine.root(ctx, "prose-firstboot status || true; echo; journalctl --no-pager -b -o short-monotonic -n 30 -u prose-firstboot.service")
	if err != nil {
		return out + err.Error()
	}
	return out
}

func doRun(ctx context.Context, r *run, args []string) (err error) {
	r.output, err = r.machine.root(ctx, args[0])
	return err
}

// outcome is a script that never fails, and whose last line says how another
// one ended.
func outcome(script string) string {
	return "set +e\n( set -e\n" + script + "\n) 2>&1\ncode=$?\necho\necho exit=$code\n"
}

func doRunFails(ctx context.Context, r *run, args []string) error {
	// Only the script's own end counts, not a connection that is gone.
	out, err := r.machine.root(ctx, outcome(args[0]))
	if err != nil {
		return err
	}
	r.output = out
	out = strings.TrimSpace(out)
	if strings.HasSuffix(out, "exit=0") {
		return fmt.Errorf("the script succeeded:\n%s", out)
	}
	return nil
}

func validOutput(args []string) error {
	if err := oneOf(args[0], []string{"is", "has", "lacks"}); err != nil {
		return err
	}
	if args[0] == "is" {
		return nil
	}
	_, err := regexp.Compile(args[1])
	return err
}

func doOutput(_ context.Context, r *run, args []string) error {
	out := strings.TrimSpace(r.output)
	if args[0] == "is" {
		if out != args[1] {
			return fmt.Errorf("it wrote\n%s\nnot\n%s", out, args[1])
		}
		return nil
	}
	return matches(out, args[1], args[0] == "has")
}

func matches(text, pattern string, want bool) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	if re.MatchString(text) != want {
		return fmt.Errorf("%s %q: %s", map[bool]string{true: "there is no", false: "there is"}[want], pattern, clip(text))
	}
	return nil
}

// clip shortens what is quoted in a reason.
func clip(s string) string {
	const most = 2000
	if s = strings.TrimSpace(s); len(s) > most {
		return s[:most] + " …"
	}
	return s
}

func doSave(_ context.Context, r *run, args []string) error {
	r.saved[args[0]] = strings.TrimSpace(r.output)
	return nil
}

func doPrint(ctx context.Context, r *run, args []string) error {
	if err := doRun(ctx, r, args); err != nil {
		return err
	}
	_, err := fmt.Fprintln(r.config.Out, strings.TrimRight(r.output, "\n"))
	return err
}

func doPause(ctx context.Context, r *run, args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	select {
	case <-time.After(r.config.Accel.Scale(d)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func doSettled(ctx context.Context, r *run, _ []string) error {
	out, err := r.machine.root(ctx, "systemctl is-system-running --wait || true; cloud-init status --wait --long || echo exit=$?")
	if err != nil {
		return err
	}
	if strings.Contains(out, "exit=") {
		return fmt.Errorf("cloud-init: %s", clip(out))
	}
	return doNoFailedUnits(ctx, r, nil)
}

func doNoFailedUnits(ctx context.Context, r *run, _ []string) error {
	out, err := r.machine.root(ctx, `for u in $(systemctl --failed --plain --no-legend | cut -d' ' -f1); do systemctl status --no-pager --lines=20 "$u" || true; done`)
	if err == nil && strings.TrimSpace(out) != "" {
		err = errors.New(clip(out))
	}
	return err
}
