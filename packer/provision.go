package packer

import (
	"context"
	"errors"
	"io"
	"os"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// errNoMachine is what provisioners get that want to reach a machine.
var errNoMachine = errors.New("provisioning: the image is baked without a machine that a provisioner could reach " +
	"(use base.packages, base.run and overlays; shell-local works)")

// provision runs the template's provisioners. Those that work on this machine
// alone can: the artifacts are there.
func provision(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook, data map[string]any) error {
	if hook == nil {
		return nil
	}
	// Packer's own provisioners try for minutes to reach a machine that does
	// not answer: the first try ends them.
	reached, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := hook.Run(reached, packersdk.HookProvision, ui, noMachine{stop}, data)
	if cause := context.Cause(reached); cause != nil {
		return cause
	}
	if err != nil {
		// What a template has for this case is run as well, and only the first
		// error counts.
		_ = hook.Run(ctx, packersdk.HookCleanupProvision, ui, noMachine{stop}, data)
	}
	return err
}

// noMachine is the communicator to a machine that does not exist.
type noMachine struct{ stop context.CancelCauseFunc }

func (m noMachine) refuse() error {
	m.stop(errNoMachine)
	return errNoMachine
}

func (m noMachine) Start(context.Context, *packersdk.RemoteCmd) error { return m.refuse() }

func (m noMachine) Upload(string, io.Reader, *os.FileInfo) error { return m.refuse() }

func (m noMachine) UploadDir(string, string, []string) error { return m.refuse() }

func (m noMachine) Download(string, io.Writer) error { return m.refuse() }

func (m noMachine) DownloadDir(string, string, []string) error { return m.refuse() }
