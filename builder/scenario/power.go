package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// powerCommands switch things off and on.
var powerCommands = []Command{
	{Name: "reboot", do: doReboot, Doc: "Reboots the machine and logs in again."},
	{Name: "off", do: doOff, Doc: "Presses the power button and waits until the machine is off."},
	{Name: "cut", do: doCut, Doc: "Cuts the power. What the guest had not written to its disk is lost."},
	{Name: "on", do: doOn, Doc: "Switches the machine on again and logs in."},
}

// bootID changes with every boot (random(4)).
const bootID = "cat /proc/sys/kernel/random/boot_id"

func doReboot(ctx context.Context, r *run, _ []string) error {
	before, err := r.machine.root(ctx, bootID)
	if err != nil {
		return err
	}
	// The answer may never come: nobody tells us that the connection is gone.
	ask, cancel := context.WithTimeout(ctx, r.config.Accel.Scale(5*time.Second))
	defer cancel()
	if _, err := r.machine.root(ask, "systemctl --no-block reboot"); err != nil && ask.Err() == nil && r.machine.shell != nil {
		return err
	}
	for {
		r.machine.leave()
		// A session from before the machine went down would wait for ever.
		try, cancel := context.WithTimeout(ctx, r.config.Accel.Scale(20*time.Second))
		now, err := r.machine.root(try, bootID)
		cancel()
		if err == nil && strings.TrimSpace(now) != strings.TrimSpace(before) {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the next boot: %w", context.Cause(ctx))
		}
	}
}

func doOff(ctx context.Context, r *run, _ []string) error {
	if r.machine.vm == nil {
		return errOff
	}
	r.machine.leave()
	if err := r.machine.vm.Shutdown(ctx); err != nil {
		return err
	}
	r.machine.close()
	return nil
}

func doCut(_ context.Context, r *run, _ []string) error {
	if r.machine.vm == nil {
		return errOff
	}
	r.machine.close()
	return nil
}

func doOn(ctx context.Context, r *run, _ []string) error {
	if r.machine.vm != nil {
		return errors.New("the machine is on")
	}
	// It outlives the step.
	if err := r.machine.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return login.do(ctx, r, nil)
}
