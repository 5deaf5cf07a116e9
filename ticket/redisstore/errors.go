package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// awayError says that Redis did not do what it was asked to.
type awayError struct {
	text  string // without what was asked
	cause error
}

func (e awayError) Error() string { return e.text }
func (e awayError) Unwrap() error { return e.cause }

// plain returns err with a text that an operator may read. Redis repeats the arguments of a command that it
// does not know, and go-redis the bytes of an answer that it cannot read: keys and values stand in both.
func plain(err error) error {
	var answer redis.Error
	var network net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate), errors.Is(err, context.Canceled):
		return awayError{err.Error(), err}
	case errors.As(err, &answer):
		text, _, _ := strings.Cut(answer.Error(), ", with args beginning with")
		return awayError{text + advice(answer), err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout):
		return awayError{"no answer within " + patience.String(), err}
	case errors.As(err, &network) && network.Timeout():
		return awayError{"no answer within " + patience.String(), err}
	case errors.As(err, &network), errors.Is(err, redis.ErrClosed):
		return awayError{strings.ReplaceAll(err.Error(), "\n", "; "), err} // a line for each Sentinel
	}
	return awayError{"the connection broke, or what answers is no Redis", err}
}

// advice names the mend of what an operator can mend.
func advice(answer redis.Error) string {
	text := answer.Error()
	switch {
	case redis.IsAuthError(answer):
		return "; see the options username and password of store redis"
	case redis.IsPermissionError(answer):
		return "; the ACL user needs the keys under key_prefix and the commands that README lists"
	case strings.HasPrefix(text, "MOVED"):
		return "; this Redis is part of a Cluster: name two of its nodes or more"
	case strings.HasPrefix(text, "ERR unknown command"):
		return "; Redis 6.2 or newer is needed"
	}
	return ""
}

// LogTo sends what go-redis itself has to say, which it would write to standard error, to f. It holds for the
// whole process. Whatever matters of it comes back as an error as well.
func LogTo(f func(line string)) { redis.SetLogger(clientLog(f)) }

type clientLog func(line string)

// Printf is what go-redis calls.
func (f clientLog) Printf(_ context.Context, format string, args ...any) {
	f(fmt.Sprintf(format, args...))
}
