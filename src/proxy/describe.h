/* SPDX-License-Identifier: Apache-2.0
 * sbx-proxy --describe: what certificates a file holds, for `sbx settings set tls.extra-ca`.
 *
 * The command line links no TLS library, and what reads the certificates here is what will trust
 * them.  Locked in like the proxy: the file may be anybody's. */
#pragma once

/* Standard input is the PEM; prints {"ok":true,"pem","certificates":[{"subject","until","ca",
 * "expired"}]} or {"ok":false,"error"}.  The exit status. */
int describe_certificates(void);
