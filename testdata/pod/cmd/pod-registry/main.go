// Pod-registry makes the pod double's images and hands them out: as an OCI image
// layout in a directory, or as a registry on an address.
//
//	pod-registry build -o DIR
//	pod-registry serve [-addr 127.0.0.1:5000] [-ready-file FILE]
//
// It prints each image's full reference and digest on standard output. Run it
// inside the source tree: it compiles the programs that go into the images.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/prose-im/prose-image/testdata/pod/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "error: %v\nhint: pod-registry build -o DIR, or pod-registry serve\n", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) {
			fmt.Fprintf(os.Stderr, "hint: %s\n", hinted.Hint())
		}
		os.Exit(1)
	}
}

type usageError string

func (e usageError) Error() string { return string(e) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usageError("a verb is missing")
	}
	flags := flag.NewFlagSet("pod-registry "+args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	cache := flags.String("cache", "", "directory that keeps what is slow to make (default: in the user's cache)")
	arches := flags.String("arch", "amd64", "Debian architectures, separated by commas")
	var out, addr, readyFile *string
	switch args[0] {
	case "build":
		out = flags.String("o", "", "directory for the OCI image layout")
	case "serve":
		addr = flags.String("addr", "127.0.0.1:5000", "address to listen on")
		readyFile = flags.String("ready-file", "", "file that is written, with the address, when all images can be pulled")
	default:
		return usageError("unknown verb " + args[0])
	}
	if err := flags.Parse(args[1:]); err != nil {
		return usageError(err.Error())
	}
	switch {
	case flags.NArg() > 0:
		return usageError("unexpected " + flags.Arg(0))
	case out != nil && *out == "":
		return usageError("-o is missing")
	}
	if *cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		*cache = filepath.Join(dir, "prose-image", "pod")
	}
	images, err := image.Build(ctx, image.Config{Cache: *cache, Arches: strings.Split(*arches, ","), Progress: stderr})
	if err != nil {
		return err
	}
	if out != nil {
		if err := image.WriteLayout(*out, images); err != nil {
			return err
		}
		return list(stdout, images)
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", *addr)
	if err != nil {
		return err
	}
	return image.Serve(ctx, listener, images, func() error {
		if err := list(stdout, images); err != nil || *readyFile == "" {
			return err
		}
		return writeReady(*readyFile, listener.Addr().String())
	})
}

func list(w io.Writer, images []image.Image) error {
	for _, i := range images {
		if _, err := fmt.Fprintf(w, "%s@%s\n", i.Reference(), i.Digest); err != nil {
			return err
		}
	}
	return nil
}

// writeReady makes the file appear whole.
func writeReady(path, addr string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(addr+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
