// Reads addresses as a browser does: [{base, address}] on standard input; what the WHATWG parser makes of each, on
// standard output.
import { readFileSync } from 'node:fs';

const read = ({ base, address }) => {
  if (!URL.canParse(address, base)) {
    return { error: 'no address' };
  }
  const u = new URL(address, base);
  return { href: u.href, origin: u.origin, user: u.username + u.password, path: u.pathname, query: u.search };
};

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(read)));
