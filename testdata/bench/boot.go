package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// firstBoot boots the image once until its Pod answers, and returns the most
// memory that the agent's unit ever had, as systemd says it.
func (b *benchmark) firstBoot() (string, error) {
	images, _ := filepath.Glob(filepath.Join(b.work, "out", "*.qcow2"))
	if len(images) != 1 {
		return "", fmt.Errorf("%d images where one was expected", len(images))
	}
	cmd := exec.Command("bin/prose-image", "test", images[0], "--scenario", "testdata/bench/first-boot.toml", "--logs", filepath.Join(b.work, "logs"))
	var out bytes.Buffer
	cmd.Stderr = &out
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w\n%s%s", cmd.Args, err, text, &out)
	}
	for line := range strings.Lines(string(text)) {
		if peak, ok := strings.CutSuffix(strings.TrimSpace(line), "M memory peak"); ok {
			return peak + " MiB", nil
		}
	}
	return "", fmt.Errorf("%v did not say the agent's memory:\n%s", cmd.Args, text)
}
