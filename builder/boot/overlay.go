package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/prose-im/prose-image/builder/host"
)

// makeOverlay makes a qcow2 file that shows the image and takes the writes.
func makeOverlay(ctx context.Context, o Options, path string) error {
	image, err := filepath.Abs(o.Image)
	if err != nil {
		return fmt.Errorf("making an overlay: %w", err)
	}
	args := []string{"qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", o.Format, path}
	if o.Size > 0 {
		out, err := host.Output(ctx, host.Command{Args: []string{"qemu-img", "info", "--output=json", "-f", o.Format, image}})
		if err != nil {
			return fmt.Errorf("making an overlay: %w", err)
		}
		var info struct {
			Size int64 `json:"virtual-size"`
		}
		if err := json.Unmarshal(out, &info); err != nil {
			return fmt.Errorf("making an overlay: reading qemu-img's answer: %w", err)
		}
		if o.Size < info.Size {
			return fmt.Errorf("making an overlay: a disk of %d bytes is smaller than %s, which has %d", o.Size, o.Image, info.Size)
		}
		args = append(args, strconv.FormatInt(o.Size, 10))
	}
	if err := host.Run(ctx, host.Command{Args: args}); err != nil {
		return fmt.Errorf("making an overlay: %w", err)
	}
	return nil
}
