// How the two clients with callbacks, of the service and of the registry, are called.
'use strict';

// connect makes a client of a class for a request: with "connectionString", or with "host"
// and "token", which a credential of Entra ID's shape then hands out.
exports.connect = (type, r) => {
  if (!r.token) return type.fromConnectionString(r.connectionString);
  const credential = { getToken: async () => ({ token: r.token, expiresOnTimestamp: Date.now() + 3600000 }) };
  return type.fromTokenCredential(r.host, credential);
};

// call awaits a method by its callback: one of them never settles without.
exports.call = (client, method, args) => new Promise((resolve, reject) => {
  client[method](...args, (err, result) => (err ? reject(err) : resolve(result)));
});

// pages reads a query to its end. The promise form of next forgets where it was.
exports.pages = async (query) => {
  const all = [];
  while (query.hasMoreResults) {
    all.push(await exports.call(query, 'next', []));
  }
  return all;
};
