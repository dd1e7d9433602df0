package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// services of the Pod, by Compose's names.
var services = []string{"server", "api", "dashboard", "app"}

// podCommands look after the containers.
var podCommands = []Command{
	{Name: "answers", do: doAnswers,
		Doc: "The Pod answers: /api/pod/version with both versions, the web app, and XMPP; every container runs."},
	{Name: "kill", Args: "server|api|dashboard|app", least: 1, most: 1, valid: validService, do: doKill,
		Doc: "Kills the first process of a container, as a crash would."},
	{Name: "remove", Args: "server|api|dashboard|app", least: 1, most: 1, valid: validService, do: doRemove,
		Doc: "Removes a container, running as it is."},
	{Name: "guide-check", do: doGuideCheck,
		Doc: "What the guide has people check: no container has exited, and no log has `[^:]error[^:]`."},
}

func validService(args []string) error { return oneOf(args[0], services) }

// containerOf is a part of a script that names a service's container.
func containerOf(service string) string {
	return fmt.Sprintf("$(docker ps --all --quiet --filter label=com.docker.compose.project=prose --filter label=com.docker.compose.service=%s)", service)
}

func doAnswers(ctx context.Context, r *run, _ []string) error {
	out, err := r.machine.root(ctx, `docker ps --all --filter label=com.docker.compose.project=prose --format '{{.Label "com.docker.compose.service"}} {{.State}}'`)
	if err != nil {
		return err
	}
	for _, s := range services {
		if !strings.Contains("\n"+out, "\n"+s+" running\n") {
			return fmt.Errorf("%s does not run:\n%s", s, out)
		}
	}
	if out, err = r.machine.root(ctx, "curl --silent --show-error --max-time 20 --fail http://127.0.0.1:8081/api/pod/version"); err != nil {
		return err
	}
	var v map[string]struct{ Version, Tag string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || len(v["api"].Version+v["api"].Tag) == 0 || len(v["server"].Version+v["server"].Tag) == 0 {
		return fmt.Errorf("/api/pod/version lacks a version: %s", clip(out))
	}
	if _, err = r.machine.root(ctx, "curl --silent --show-error --max-time 20 --fail --output /dev/null http://127.0.0.1:8080/"); err != nil {
		return err
	}
	_, err = r.outside.startTLS(ctx, r.Domain, r.outside.trust(r.Domain))
	return err
}

func doKill(ctx context.Context, r *run, args []string) error {
	_, err := r.machine.root(ctx, "kill -KILL $(docker inspect --format '{{.State.Pid}}' "+containerOf(args[0])+")")
	return err
}

func doRemove(ctx context.Context, r *run, args []string) error {
	_, err := r.machine.root(ctx, "docker rm --force "+containerOf(args[0]))
	return err
}

func doGuideCheck(ctx context.Context, r *run, _ []string) error {
	out, err := r.machine.root(ctx, `all=$(docker ps --all --quiet --filter label=com.docker.compose.project=prose)
[ -n "$all" ] || echo "there are no containers"
docker ps --all --filter label=com.docker.compose.project=prose --filter status=exited --format '{{.Names}} has exited'
for c in $all; do docker logs "$c" 2>&1 | grep '[^:]error[^:]' | sed "s/^/$c: /" || true; done`)
	if err == nil && strings.TrimSpace(out) != "" {
		err = errors.New(clip(out))
	}
	return err
}
