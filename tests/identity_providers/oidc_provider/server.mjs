// An oidc-provider on the loopback interface. Its state ends with it.
//
// Its argument is a JSON file with the port, the issuer, the clients, and what
// getResourceServerInfo() has to answer for each resource.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';

import Provider from 'oidc-provider';

const { port, issuer, clients, resources } = JSON.parse(readFileSync(process.argv[2]));

// Without keys of our own, it signs with one that every copy of the package has.
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });

const provider = new Provider(issuer, {
  clients,
  cookies: { keys: [randomUUID()] },
  extraTokenClaims: (_, token) => ({ username: token.accountId }),
  features: {
    introspection: { enabled: true },
    jwtIntrospection: { enabled: true },
    resourceIndicators: { getResourceServerInfo: (_, resource) => resources[resource] },
    revocation: { enabled: true },
  },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }] },
});

provider.on('server_error', (_, error) => console.error(error));
provider.listen(port, '127.0.0.1');
