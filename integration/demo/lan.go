//go:build unix

package main

import (
	"errors"
	"net"
)

var errNoAddress = errors.New("this machine has no address in a local network; name one: ./xcaddy.sh run --test <app id> <secret> --host <address>")

// lanAddress is this machine's address as others in the same network reach it: a private one where there
// is one, that of the route to everywhere first.
func lanAddress() (string, error) {
	candidates := []net.IP{routeAddress()}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			candidates = append(candidates, n.IP.To4())
		}
	}
	for _, fits := range []func(net.IP) bool{net.IP.IsPrivate, net.IP.IsGlobalUnicast} {
		for _, ip := range candidates {
			if fits(ip) {
				return ip.String(), nil
			}
		}
	}
	return "", errNoAddress
}

// routeAddress asks the routing table; nothing is sent. It is nil where there is no route.
func routeAddress() net.IP {
	conn, err := net.Dial("udp4", "223.5.5.5:53")
	if err != nil {
		return nil
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return nil
	}
	return local.IP
}
