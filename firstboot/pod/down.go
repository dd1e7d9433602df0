package pod

import (
	"context"
	"errors"
	"fmt"

	"github.com/prose-im/prose-image/firstboot/engine"
)

// Down removes all that a project has on the engine, in whatever state it is:
// containers, which get a chance to finish first, networks and volumes, with
// what is in them. Images stay. Without the engine nothing can be known to be
// gone, and that is an error.
func Down(ctx context.Context, e *engine.Client, project string) error {
	of := labelProject + "=" + project
	list, err := e.Containers(ctx, of)
	if err != nil {
		return fmt.Errorf("listing containers: %w", err)
	}
	gone := func(err error) bool { return err == nil || errors.Is(err, engine.ErrNotFound) }
	for _, c := range list {
		if err := e.Stop(ctx, c.ID, patience); err != nil && ctx.Err() != nil {
			return fmt.Errorf("stopping a container: %w", err)
		}
		if err := e.Remove(ctx, c.ID); !gone(err) {
			return fmt.Errorf("removing a container: %w", err)
		}
	}
	networks, err := e.Networks(ctx, of)
	if err != nil {
		return fmt.Errorf("listing networks: %w", err)
	}
	for _, n := range networks {
		if err := e.RemoveNetwork(ctx, n.Name); !gone(err) {
			return fmt.Errorf("removing the network %s: %w", n.Name, err)
		}
	}
	volumes, err := e.Volumes(ctx, of)
	if err != nil {
		return fmt.Errorf("listing volumes: %w", err)
	}
	for _, v := range volumes {
		if err := e.RemoveVolume(ctx, v.Name); !gone(err) {
			return fmt.Errorf("removing the volume %s: %w", v.Name, err)
		}
	}
	return nil
}
