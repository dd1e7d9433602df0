package command

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	t.Setenv("SECRET", "x")
	if err := Run(t.Context(), "sh", "-c", `[ -z "$SECRET" ] && ! read line`); err != nil {
		t.Errorf("environment or standard input reach the program: %v", err)
	}
	err := Run(t.Context(), "sh", "-c", "echo one; echo two >&2; exit 3")
	var e *Error
	var exit *exec.ExitError
	if !errors.As(err, &e) || e.Output != "one\ntwo" || !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%v", err)
	}
	err = Run(t.Context(), "sh", "-c", "yes 0123456789 | head -c 100000; exit 1")
	if !errors.As(err, &e) || len(e.Output) > most {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("told to stop"))
	if err := Run(ctx, "sleep", "60"); err == nil || !strings.Contains(err.Error(), "told to stop") {
		t.Errorf("%v", err)
	}
}
