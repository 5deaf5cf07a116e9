package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// cpus says where what runs: the gateway has one to itself, load, upstream and WeChat share another.
type cpus struct {
	first, second string
	shared        string // why all run where the system has them, if so
}

// pin binds this process and its children to the second CPU.
func pin() cpus {
	if _, err := exec.LookPath("taskset"); err != nil {
		return cpus{shared: "taskset is not installed"}
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, list, _ := strings.Cut(string(status), "Cpus_allowed_list:")
	list, _, _ = strings.Cut(strings.TrimSpace(list), "\n")
	allowed := readCPUs(list)
	if len(allowed) < 2 {
		return cpus{shared: "there is one CPU"}
	}
	c := cpus{first: allowed[0], second: allowed[1]}
	// -a: every thread there is. Those to come, and children, take after them.
	if out, err := exec.Command("taskset", "-a", "-p", "-c", c.second, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		return cpus{shared: fmt.Sprintf("taskset: %v: %s", err, out)}
	}
	runtime.GOMAXPROCS(1)
	return c
}

// readCPUs reads a list such as 0-2,5.
func readCPUs(list string) (names []string) {
	for part := range strings.SplitSeq(list, ",") {
		from, to, _ := strings.Cut(part, "-")
		low, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		high, err := strconv.Atoi(to)
		if err != nil {
			high = low
		}
		for i := low; i <= high; i++ {
			names = append(names, strconv.Itoa(i))
		}
	}
	return names
}

// gateway is the command line that runs a command on the first CPU.
func (c cpus) gateway(command ...string) []string {
	if c.shared != "" {
		return command
	}
	return append([]string{"taskset", "-c", c.first}, command...)
}

func (c cpus) String() string {
	if c.shared != "" {
		return "nothing is pinned, for " + c.shared + ": CPU per request counts, requests per second do not"
	}
	return "the gateway on CPU " + c.first + ", load and upstream on CPU " + c.second
}
