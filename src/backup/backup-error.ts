/** What a backup and a restore end with; the messages are for the user, as they are. */

/** It cannot be done, or not so; everything is as it was. */
export class Refused extends Error {
  override readonly name = 'Refused';
}

/** The files are not those that were backed up. */
export class BackupDamaged extends Error {
  override readonly name = 'BackupDamaged';
}
