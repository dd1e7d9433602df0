package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/cloudinit"
)

// A Key is one key of a scenario file.
type Key struct {
	Name    string
	Value   string // what to write, for people
	Default string // as the file has it; empty: none
	Doc     string
	set     func(s *Scenario, v any) error
}

// Keys lists what a scenario file may have.
var Keys = []Key{
	{"about", "text", "", "What it shows, in a sentence.", func(s *Scenario, v any) error { return text(&s.About, v) }},
	{"firmware", "list of bios, uefi, secureboot", `["bios"]`, "It runs once with each. For arm64, which has no BIOS, UEFI stands for it.", setFirmware},
	{"domain", "text", `"chat.example"`, "Domain of the Pod; `{domain}` in the steps.", func(s *Scenario, v any) error {
		if err := text(&s.Domain, v); err != nil {
			return err
		}
		return cloudinit.CheckDomain(s.Domain)
	}},
	{"disk", "number", "8", "GiB of disk.", func(s *Scenario, v any) error { return number(&s.Disk, v, 1, 1024) }},
	{"memory", "number", "2048", "MiB of memory.", func(s *Scenario, v any) error { return number(&s.Memory, v, 256, 65536) }},
	{"cpus", "number", "2", "Processors.", func(s *Scenario, v any) error { return number(&s.CPUs, v, 1, 64) }},
	{"budget", "number", "300", "Seconds that a step may take with KVM; emulation has four times as much.", func(s *Scenario, v any) error {
		var n int64
		err := number(&n, v, 1, 7200)
		s.Budget = time.Duration(n) * time.Second
		return err
	}},
	{"dns", "right, wrong or none", `"right"`, "What DNS says of the Pod's names at power-on: this machine, another one, or nothing.", func(s *Scenario, v any) error {
		if err := text(&s.DNS, v); err != nil {
			return err
		}
		return oneOf(s.DNS, dnsStates)
	}},
	{"login", "true or false", "true", "Whether the first step is to log in, which is work for the machine. With false that comes with the first step that needs it.", func(s *Scenario, v any) error {
		b, ok := v.(bool)
		if !ok {
			return errors.New("this is true or false")
		}
		s.Login = b
		return nil
	}},
	{"settings", "table", "none", "Settings of the machine, in a file that user-data writes. Authority and domain are added unless they are there; without settings and user-data the machine is unconfigured.", func(s *Scenario, v any) error {
		m, ok := v.(map[string]any)
		if !ok {
			return errors.New("settings is a table")
		}
		s.Settings = m
		return nil
	}},
	{"user-data", "text", "none", "User-data as it is, instead of settings; it may have placeholders.", func(s *Scenario, v any) error { return text(&s.UserData, v) }},
	{"steps", "list of texts", "none", "What is done and looked at, one command each.", nil},
}

func text(to *string, v any) error {
	s, ok := v.(string)
	if !ok {
		return errors.New("this is a text, in quotes")
	}
	if strings.TrimSpace(s) == "" {
		return errors.New("the text is empty")
	}
	*to = s
	return nil
}

func number(to *int64, v any, least, most int64) error {
	n, ok := v.(int64)
	if !ok || n < least || n > most {
		return fmt.Errorf("this is a whole number from %d to %d", least, most)
	}
	*to = n
	return nil
}

func oneOf[T ~string](v T, all []T) error {
	if !slices.Contains(all, v) {
		var names []string
		for _, a := range all {
			names = append(names, string(a))
		}
		return fmt.Errorf("%q is not one of %s", v, strings.Join(names, ", "))
	}
	return nil
}

func setFirmware(s *Scenario, v any) error {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return errors.New("firmware is a list with at least one text")
	}
	s.Firmware = nil
	for _, e := range list {
		name, _ := e.(string)
		if err := oneOf(boot.Firmware(name), boot.Firmwares); err != nil {
			return err
		}
		if slices.Contains(s.Firmware, boot.Firmware(name)) {
			return fmt.Errorf("%q comes twice", name)
		}
		s.Firmware = append(s.Firmware, boot.Firmware(name))
	}
	return nil
}
